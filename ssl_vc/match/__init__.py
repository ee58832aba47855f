"""Matchers: a source's frames in, a target's frames out. One file each, behind `ssl_vc.match.protocol.Matcher`."""
