"""Discrepancies: which attributes of a class's images the model's accuracy hangs on, counted and ranked."""

from despur.rank.order import ORDERS, Order
from despur.rank.ranking import MEMORY, SCHEMA, Ranking, RankSettings, helping, hurting, rank

__all__ = ["MEMORY", "ORDERS", "SCHEMA", "Order", "RankSettings", "Ranking", "helping", "hurting", "rank"]
