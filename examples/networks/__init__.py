"""Float networks of five kinds, written as people write them: small by default, of any size by their arguments."""
