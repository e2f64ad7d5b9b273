"""Where images come from: files, videos, cameras, streams, watched folders."""
