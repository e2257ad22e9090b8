"""Parts that change no result: console, files, processes, signals, trackers, devices."""
