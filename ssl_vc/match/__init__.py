"""Matchers map a source's frames to a target's. One file each, behind `ssl_vc.match.protocol.Matcher`."""
