#!/usr/bin/env bash
# Makes the two clips of this folder with Debian's flite and sox: Aesop's fable, read by two of flite's voices.
set -euo pipefail
cd "$(dirname "$0")"
make() { # NAME VOICE TEXT
  flite -voice "$2" -t "$3" -o "$1.wav"
  sox -D "$1.wav" -C 8 "$1.flac"
  rm "$1.wav"
}
make source rms "The north wind and the sun were disputing which was the stronger, when a traveller came along, wrapped in
a warm cloak."
make target slt "They agreed that the one who first succeeded in making the traveller take his cloak off should be considered
stronger than the other. Then the north wind blew as hard as he could, but the more he blew, the more closely did the
traveller fold his cloak around him; and at last the north wind gave up the attempt. Then the sun shone out warmly, and
immediately the traveller took off his cloak. And so the north wind was obliged to confess that the sun was the stronger of
the two. Gentle ways often reach what force cannot: five good voices, a measured pace, and the joy of young shepherds will
charm a village that no shouting ever woke."
