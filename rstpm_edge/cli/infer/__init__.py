"""`rstpm-edge infer`: images, videos, cameras and watched folders, judged one after the other."""
