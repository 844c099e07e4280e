"""How events spread: what a cascade may use up, where it goes in circles, and when it has ended."""
