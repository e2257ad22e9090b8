"""Temporal methods: what turns an image network into a video network. One file a method."""
