"""Voice conversion: analyse the source, match it with a voice, blend, synthesise."""
