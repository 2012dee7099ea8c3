"""The paper's tables, published numbers beside our own."""

from despur.reproduce.beside import Beside, beside, group_sizes
from despur.reproduce.published import TABLE_1, TABLE_2, TABLE_4, PublishedRow
from despur.reproduce.study import RECIPES, TABLES, waterbirds_study

__all__ = [
    "RECIPES",
    "TABLES",
    "TABLE_1",
    "TABLE_2",
    "TABLE_4",
    "Beside",
    "PublishedRow",
    "beside",
    "group_sizes",
    "waterbirds_study",
]
