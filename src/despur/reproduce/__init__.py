"""The paper's tables and figures, published numbers beside our own."""

from despur.reproduce.beside import Beside, beside, group_sizes
from despur.reproduce.published import TABLE_1, TABLE_2, TABLE_3, TABLE_4, TABLE_5, PublishedRow, PublishedShortcut
from despur.reproduce.reproduction import PARTS, Downloads, Outcome, Reproduction, chosen_parts
from despur.reproduce.searching import Looking
from despur.reproduce.study import RECIPES, Choices, waterbirds_study

__all__ = [
    "PARTS",
    "RECIPES",
    "TABLE_1",
    "TABLE_2",
    "TABLE_3",
    "TABLE_4",
    "TABLE_5",
    "Beside",
    "Choices",
    "Downloads",
    "Looking",
    "Outcome",
    "PublishedRow",
    "PublishedShortcut",
    "Reproduction",
    "beside",
    "chosen_parts",
    "group_sizes",
    "waterbirds_study",
]
