"""The fold: what keeps DuckDB equal to the log, and whatever else reads the log."""

from modeltrail.consumers.fold import Fold, FoldBehind, FoldStatus, rebuild
from modeltrail.consumers.store import StoreError

__all__ = ["Fold", "FoldBehind", "FoldStatus", "StoreError", "rebuild"]
