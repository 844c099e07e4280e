"""Who takes part in what, in the order of the tables."""

from benchmarks.launch import Pair

__all__ = ["FLOW", "HOP"]

HOP = {
    "raw echo": Pair(answering="raw_echo:Echo", driving="raw_echo:Asker"),
    "thence": Pair(answering="thence.hop:Answerer", driving="thence.hop:Asker"),
    "nats-py": Pair(answering="nats_client:Answerer", driving="nats_client:Asker"),
    "redis": Pair(answering="redis_client:Answerer", driving="redis_client:Asker"),
    "faststream": Pair(answering="faststream_nats:Answerer", driving="faststream_nats:Asker"),
}

FLOW = {
    "thence": Pair(answering="thence.flow:Reader", driving="thence.flow:Writer"),
    "thence keyed": Pair(answering="thence.flow:KeyedReader", driving="thence.flow:KeyedWriter"),
    "thence suspending": Pair(
        answering="thence.flow:SuspendingReader", driving="thence.flow:Writer"
    ),
    "nats-py": Pair(answering="nats_client:Reader", driving="nats_client:Writer"),
    "redis": Pair(answering="redis_client:Reader", driving="redis_client:Writer"),
    "faststream": Pair(answering="faststream_nats:Reader", driving="faststream_nats:Writer"),
}
