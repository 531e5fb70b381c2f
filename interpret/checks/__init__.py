"""Rules with codes: what a checkpoint is held against."""

from interpret.checks.base import Finding, Measured, Outcome, Rule, Verdict
from interpret.checks.evidence import Evidence

__all__ = ["Evidence", "Finding", "Measured", "Outcome", "Rule", "Verdict"]
