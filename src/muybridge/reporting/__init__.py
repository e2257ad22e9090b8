"""From runs on disk to what a person can conclude. No torch: reports are written anywhere."""
