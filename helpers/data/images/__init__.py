"""From one encoded image, volume or series to grey values of 8 bit."""
