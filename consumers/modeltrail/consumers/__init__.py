"""Readers of the log: the fold, which keeps DuckDB equal to the log, and others."""

from modeltrail.consumers.fold import Fold, FoldBehind, FoldStatus, rebuild
from modeltrail.consumers.store import StoreError

__all__ = ["Fold", "FoldBehind", "FoldStatus", "StoreError", "rebuild"]
