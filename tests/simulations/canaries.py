"""Audits that tests run."""

from __future__ import annotations

from typing import Any

from privacy.plan import PrivacyRequest
from simulations.audit_config import AuditConfig

SAMPLED: dict[str, Any] = {"privacy": {"sampling_rate": 0.25}, "rounds": 4}
PATIENTS: dict[str, Any] = {"records_per_canary": 3}
LOCAL: dict[str, Any] = {"privacy": {"mode": "local"}}
MANY: dict[str, Any] = {"canaries": 2000}


def configured(**changes: Any) -> AuditConfig:
    """A small audit; `privacy` may be a mapping of what differs from epsilon 4, distributed."""
    privacy = {"mode": "distributed", "epsilon": 4.0, **changes.pop("privacy", {})}
    return AuditConfig(**{"name": "audit", "privacy": PrivacyRequest(**privacy), **changes})
