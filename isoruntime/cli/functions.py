"""Which functions a gateway serves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from isoruntime.function import Described

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from isoruntime.settings import Settings


def functions_of(
    settings: Settings, flags: Mapping[str, object], environ: Mapping[str, str]
) -> Sequence[Described]:
    """Return the functions to serve."""
    return [
        Described(
            settings,
            environ.get("FC_FUNCTION_NAME", ""),
            region=environ.get("FC_REGION", ""),
            account_id=environ.get("FC_ACCOUNT_ID", ""),
        )
    ]
