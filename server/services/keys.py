"""The keys that wrap the tenants' data keys: what they wrap, whether all can be opened, and their rotation while all goes on.

A rotation adds a new key, wraps each tenant's data key by it, and drops the old keys. It can be killed anywhere: whatever is
stored at any moment is opened by a key that is in use, and the next rotation finishes what it finds begun instead of adding
another key. Running processes follow by themselves, because of the order:

- The new key is in the key file for good before any row names it. A process that meets it reads the file again.
- Old keys are dropped when no row names them any more. A process that read a row before that, or holds one in memory, has the
  old key in memory too, or its data key: it never forgets what it has read. Only a process that read a row under a key that it
  has not met yet must come to the file while that key is still there; and one that makes a tenant, wrapped by the old key,
  must come to store it. Both are a matter of milliseconds, for which the rotation waits `settle_s`, and looks again.

The processes of other machines have key files of their own: there `prepare` comes first, then the file is copied to all of
them, then the rotation, then the file is copied again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from server import logs
from server.auth.secrets import CannotOpen, Secrets, key_id
from server.errors import InvalidInput
from server.services import Deps
from server.store import Store

SETTLE_S = 5.0  # longer than a transaction of ours takes

log = logs.get(__name__)


def is_new_key_due(ids: Sequence[bytes], named: Collection[bytes]) -> bool:
    """Say whether a rotation has to begin with a new key: not if one is there already that does not wrap everything yet, and
    not if older keys are left; then a rotation was prepared or begun.

    `ids` are the keys in use, that which wraps first; `named` those by which tenants' data keys are wrapped.
    """
    return len(ids) == 1 and set(named) == {ids[0]}


def rotate_keys(deps: Deps, *, prepare: bool = False, settle_s: float = SETTLE_S) -> dict[str, int]:
    """Rotate the keys, or finish a rotation that was begun; with `prepare` only see to it that the new key is there.

    Return how many tenants there are, how many data keys were wrapped anew and how many keys were dropped, as
    {"tenants", "rewrapped", "retired"}.

    Raises: Conflict if another process is at it; InvalidInput if the keys cannot be changed, or as check_keys; Transient.
    """
    kek = deps.vault.secrets.kek
    with kek.rotation():
        tenants = check_keys(deps.store, deps.vault.secrets)
        if is_new_key_due(kek.ids, _named(tenants)):
            kek.renew()
        if prepare:
            return {"tenants": len(tenants), "rewrapped": 0, "retired": 0}
        rewrapped = _rewrap_all(deps)
        deps.sleep(settle_s)
        rewrapped += _rewrap_all(deps)
        retired = kek.retire(_named(_wrapped_keys(deps.store)))
    log.info("keys rotated", tenants=len(tenants), rewrapped=rewrapped, retired=retired)
    return {"tenants": len(tenants), "rewrapped": rewrapped, "retired": retired}


def list_keys(deps: Deps) -> list[dict[str, Any]]:
    """Return the keys in use, that which wraps first, and those that are missing, as {"id", "tenants", "in_use"}."""
    ids = deps.vault.secrets.kek.ids
    wrapped = _wrapped_keys(deps.store).values()
    counted = Counter(key_id(one) for one in wrapped)
    usable = set(ids) | {key_id(one) for one in wrapped if deps.vault.secrets.can_open(one)}
    return [{"id": one.hex(), "tenants": counted[one], "in_use": one in usable} for one in dict.fromkeys((*ids, *counted))]


def check_keys(store: Store, secrets: Secrets) -> dict[str, bytes]:
    """Return every tenant's wrapped key, by the tenant's id, once it is sure that all can be opened.

    Raises: InvalidInput if some are wrapped by a key that is not in use, or that does not open them; Transient if the keys
    cannot be asked; DatabaseAway.
    """
    with store.transaction(reading=True) as tx:
        wrapped = tx.wrapped_keys()
        names = {tenant.id: tenant.name for tenant in tx.tenants()}
    foreign = [tenant for tenant, one in wrapped.items() if not secrets.can_open(one)]
    if foreign:
        ids = ", ".join(sorted({key_id(wrapped[tenant]).hex() for tenant in foreign}))
        some = ", ".join(sorted(names[tenant] for tenant in foreign)[:3]) + (" and others" if len(foreign) > 3 else "")
        raise InvalidInput("keys", f"the data of {some} is under key {ids}, which this installation does not have")
    for tenant, one in {key_id(one): (tenant, one) for tenant, one in wrapped.items()}.values():  # one of each key will do
        try:
            secrets.rewrap(one)
        except CannotOpen as error:
            raise InvalidInput("keys", f"the data of {names[tenant]} does not open: {error}") from error
    return wrapped


def _wrapped_keys(store: Store) -> dict[str, bytes]:
    with store.transaction(reading=True) as tx:
        return tx.wrapped_keys()


def _named(wrapped: Mapping[str, bytes]) -> set[bytes]:
    return {key_id(one) for one in wrapped.values()}


def _rewrap_all(deps: Deps) -> int:
    """Wrap what is not under the wrapping key; return how many. A row that somebody else changed meanwhile is left."""
    secrets, done = deps.vault.secrets, 0
    current = secrets.kek.ids[0]
    for tenant_id, old in _wrapped_keys(deps.store).items():
        if key_id(old) != current:
            new = secrets.rewrap(old)
            with deps.store.transaction() as tx:
                if tx.rewrap(tenant_id, old, new):
                    tx.record("key.rewrap", deps.now(), tenant_id=tenant_id, user_id=None, kek=current.hex())
                    done += 1
    return done
