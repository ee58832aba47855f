"""How good a sound is: what is said in it and by whom, how near it is to another, and what making it costs.

Measures take (samples,) at 16 kHz, the original first; `ssl_vc.read((wav, rate))` brings any other rate there. They
compare the two moment by moment, so they must be aligned; where one is longer, its end is left out. What cannot be
measured on a sound (it is silent, too short, nothing in it is voiced) is None.
"""
