"""Pages to listen and compare, with spectrograms and charts."""
