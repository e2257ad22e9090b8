"""A set rewritten for reading: packs, folders of JPEGs."""
