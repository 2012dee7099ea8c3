"""Memory of detection with OWL-ViT base and 8,000 phrases: over 500 images no more than over 50.

The model of ``detect.py``, each number of images in a fresh process that encodes the phrases and then searches.
"""

from __future__ import annotations

from functools import partial

from detect import search
from harness import arguments, peak_gb, tell


def main() -> None:
    options = arguments("memory of detection over few and many images")
    few, many, phrases = (8, 16, 50) if options.quick else (50, 500, 8_000)
    peaks = {f"{count} images": peak_gb(partial(search, options.quick, count, phrases)) for count in (few, many)}
    tell("detect_memory", {"many_over_few": peaks[f"{many} images"] / peaks[f"{few} images"]}, peaks, options)


if __name__ == "__main__":
    main()
