"""Detection: which phrases of a vocabulary are seen in which images, and where."""

from despur.detect.column import column_detections
from despur.detect.load import CHECKPOINTS, expect_detector, load_detector
from despur.detect.protocol import Detections, Detector, Queries
from despur.detect.schema import SCHEMA
from despur.detect.searching import DetectSettings, to_table
from despur.detect.table import Searched, detect_to_table, encode_vocabulary, read_searched, write_detections
from despur.detect.vocabulary import Removal, Vocabulary, load_vocabulary, named_classes, near_synonyms

__all__ = [
    "CHECKPOINTS",
    "SCHEMA",
    "DetectSettings",
    "Detections",
    "Detector",
    "Queries",
    "Removal",
    "Searched",
    "Vocabulary",
    "column_detections",
    "detect_to_table",
    "encode_vocabulary",
    "expect_detector",
    "load_detector",
    "load_vocabulary",
    "named_classes",
    "near_synonyms",
    "read_searched",
    "to_table",
    "write_detections",
]
