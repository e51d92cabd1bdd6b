"""What each SDK return code means for a migration, and what may be done after it.

The table is section 4 of the Virtuozzo facts. ``untouched`` stands only where the code itself proves that
the domain was not touched (the dispatcher gives it before it starts to move anything). ``after`` is the
class that holds next: for VERIFY once both sides have been looked at and the domain is back on its
source, for TRANSIENT once its tries are used up.
"""

from __future__ import annotations

from dataclasses import dataclass

from worker.errors import Retry
from worker.hypervisors.vz.sdk import unsigned


@dataclass(frozen=True, slots=True)
class Code:
    """One ``PRL_RESULT``: its symbol, class and the reason for it."""

    symbol: str
    retry: Retry
    reason: str
    after: Retry
    untouched: bool = False
    tries: int | None = None
    slow: bool = False


ENVELOPE = 0x80031000
"""``VM_MIGRATE_CHECKING_PRECONDITIONS_FAILED``: the causes are nested events of the job's result."""
CANCELLED = 0x80000275
CONNECTION_CLOSED = 0x80000246
NOT_CONNECTED = 0x80000251
TIMEOUT = 0x80000015


def code_for(ret_code: int) -> Code:
    """The entry of a return code, signed or not.

    A positive code is no failure. An unknown negative one may mean anything: look first, then an operator.
    """
    number = unsigned(ret_code)
    if (known := CODES.get(number)) is not None:
        return known
    if number < 0x80000000:
        return Code(f"PRL_INFO_{number}", Retry.DONE, "positive codes inform", Retry.DONE)
    return Code(f"0x{number:08x}", Retry.VERIFY, "a code nobody knows", Retry.OPERATOR)


def _entry(
    symbol: str, retry: Retry, reason: str, then: Retry | None, before: bool, tries: int | None, slow: bool
) -> Code:
    name = symbol if symbol.startswith("PRL_") else f"PRL_ERR_{symbol}"
    return Code(name, retry, reason, then or retry, before, tries, slow)


def _transient(
    symbol: str,
    reason: str,
    *,
    tries: int | None = None,
    then: Retry | None = None,
    before: bool = False,
    slow: bool = False,
) -> Code:
    return _entry(symbol, Retry.TRANSIENT, reason, then, before, tries, slow)


def _verify(symbol: str, reason: str, then: Retry, *, before: bool = False, tries: int | None = None) -> Code:
    return _entry(symbol, Retry.VERIFY, reason, then, before, tries, False)


def _reprepare(symbol: str, reason: str) -> Code:
    return _entry(symbol, Retry.REPREPARE, reason, None, True, None, False)


def _operator(symbol: str, reason: str, *, before: bool = False) -> Code:
    return _entry(symbol, Retry.OPERATOR, reason, None, before, None, False)


def _permanent(symbol: str, reason: str, *, before: bool = False) -> Code:
    return _entry(symbol, Retry.PERMANENT, reason, None, before, None, False)


def _done(symbol: str, reason: str) -> Code:
    return _entry(symbol, Retry.DONE, reason, None, False, None, False)


_T, _O, _P = Retry.TRANSIENT, Retry.OPERATOR, Retry.PERMANENT

_GENERAL = {
    0x80000001: _verify("UNEXPECTED", "exception in the task: may be any step", _O),
    0x80000002: _verify("OUT_OF_MEMORY", "SDK or dispatcher short of memory", _T, tries=2),
    0x80000003: _permanent("INVALID_ARG", "wrong handle or argument: our mistake"),
    0x80000004: _permanent("INVALID_HANDLE", "stale handle"),
    0x80000005: _operator("ACCESS_DENIED", "rights, or libvirt denied it"),
    0x80000006: _permanent("BUFFER_OVERRUN", "mistake in the binding"),
    0x80000007: _verify("UNINITIALIZED", "job read before its end, or domain missing", _O),
    0x80000008: _permanent("UNIMPLEMENTED", "linked clone, or a container on an old target"),
    0x80000009: _verify("FAILURE", "catch-all: the target's disconnect, unmapped libvirt errors", _T, tries=2),
    0x80000013: _verify("OPERATION_PENDING", "result asked too early", _O),
    0x80000014: _verify("NO_DATA", "no further information: not a failure of the job", _O),
    0x80000015: _verify("TIMEOUT", "peer silent; in the late window the VM may have moved", _T),
    0x80000016: _verify("OPERATION_FAILED", "libvirt or file copy failed; QEMU failures repeat", _T, tries=2),
    0x80000018: _permanent("INVALID_PARAM", "bad reply in the copy: versions differ"),
    0x80000036: _permanent("PARSE_VM_CONFIG", "configuration not understood", before=True),
    0x80000037: _operator("VM_CONFIG_ALREADY_EXISTS", "domain exists on the target: leftovers"),
    0x80000049: _operator("VM_GET_CONFIG_FAILED", "configuration of the VM cannot be read"),
    0x80000059: _reprepare("USER_OPERATION_NOT_AUTHORISED", "the session died"),
    0x80000062: _verify("VM_ALREADY_REGISTERED_VM_UUID", "an earlier try won, or leftovers", _O, before=True),
    0x80000063: _verify("VM_ALREADY_REGISTERED_VM_PATH", "an earlier try won, or leftovers", _O, before=True),
    0x80000070: _permanent("PARSE_HOST_HW_INFO", "host information not understood", before=True),
    0x80000091: _permanent("UNRECOGNIZED_REQUEST", "protocols differ"),
    0x80000092: _verify("TASK_NOT_FOUND", "too late: it has finished", _O),
    0x80000102: _done("NOT_ALL_FILES_WAS_DELETED", "a warning; clean the source"),
    0x80000105: _verify("VM_UUID_NOT_FOUND", "VM not on the source: maybe moved already", _P, before=True),
    0x80000110: _operator("FILE_READ_ERROR", "source bundle cannot be read"),
    0x80000114: _verify("VM_ALREADY_REGISTERED_UNIQUE_PARAMS", "an earlier try won, or leftovers", _O, before=True),
    0x80000115: _operator("VM_ALREADY_REGISTERED_VM_NAME", "name taken on the target: rename", before=True),
    0x80000234: _operator("SAVE_VM_CONFIG", "target cannot write: disk or permission"),
    0x80000239: _operator("ACCESS_TO_VM_DENIED", "rights on the VM", before=True),
    0x80000246: _verify("WS_DISP_CONNECTION_CLOSED", "our session died; the task goes on without it", _T),
    0x80000249: _transient("CANT_CONNECT_TO_DISPATCHER", "daemon down, nothing sent", before=True),
    0x80000251: _reprepare("NOT_CONNECTED_TO_DISPATCHER", "request not sent"),
    0x80000252: _permanent("ALREADY_CONNECTED_TO_DISPATCHER", "double login: our mistake"),
    0x80000275: _verify("OPERATION_WAS_CANCELED", "cancelled, or the hosts lost each other", _T),
    0x80000277: _permanent("WRONG_CONNECTION_SECURITY_LEVEL", "below the target's minimum", before=True),
    0x80000283: _operator("VM_CONFIG_DOESNT_EXIST", "source entry broken", before=True),
    0x80000285: _operator("VMDIR_INVALID_PATH", "source home missing"),
    0x80000287: _permanent("API_WASNT_INITIALIZED", "our mistake"),
    0x80000297: _operator("OUT_OF_DISK_SPACE", "disk full"),
    0x80000300: _transient("IO_SEND_QUEUE_IS_FULL", "transport overloaded"),
    0x80000327: _operator("VM_DIRECTORY_NOT_EXIST", "user has no VM directory on the target"),
    0x80000330: _operator("AUTHENTICATION_FAILED", "login refused: never hammer"),
    0x80000349: _verify("ATTACH_TO_TASK_BAD_SESSION", "not the session of that task", _O),
    0x80000374: _operator("INVALID_VM_UUID", "source entry broken", before=True),
    0x80000375: _operator("INVALID_SERVER_UUID", "VM belongs to another server", before=True),
    0x80000384: _transient("VM_MUST_BE_STOPPED_FOR_CHANGE_DEVICES", "hardware edit in progress", before=True),
    0x80000401: _verify("IO_NO_CONNECTION", "transport lost", _T),
    0x80000404: _transient("DISP_SHUTDOWN_IN_PROCESS", "a dispatcher is stopping", before=True, slow=True),
    0x80000406: _verify("OBJECT_WAS_REMOVED", "VM handle dead", _O),
    0x80000412: _transient("HANDSHAKE_FAILED", "restart in progress or wrong peer", tries=3, then=_O, before=True),
    0x80000413: _permanent("WRONG_PROTOCOL_VERSION", "versions differ", before=True),
    0x80000414: _transient("SSL_HANDSHAKE_FAILED", "restart in progress or wrong peer", tries=3, then=_O, before=True),
    0x80000415: _transient("DISP_LOGON_ACTIONS_REACHED_UP_LIMIT", "too many logins at once"),
    0x80000422: _permanent("API_INCOMPATIBLE", "library older than the binding"),
    0x80000447: _verify("VM_ALREADY_REGISTERED", "an earlier try won, or leftovers", _O, before=True),
    0x80000450: _transient("TRY_AGAIN", "send queue full, not sent", before=True),
    0x80000472: _operator("VM_SNAPSHOT_NOT_FOUND", "libvirt misses a snapshot"),
    0x80000476: _transient("VM_IS_EXCLUSIVELY_LOCKED", "another session locks the VM", then=_O, slow=True),
    0x80000510: _transient(
        "CANT_CONNECT_TO_DISPATCHER_ITERATIVELY", "source cannot reach the target", tries=5, before=True
    ),
    0x80000511: _transient("CANT_RESOLVE_HOSTNAME", "source cannot resolve the target", tries=2, then=_O, before=True),
    0x80000516: _verify("INVALID_ACTION_REQUESTED", "state changed under us", _T, tries=1),
    0x80000521: _transient("SERVICE_BUSY", "cluster busy"),
    0x80000588: _operator("RSA_DECRYPTION_FAILED", "key login"),
    0x80000589: _operator("PUBLIC_KEY_NOT_AUTHORIZED", "key login"),
    0x80004026: _operator("PRL_NET_VIRTUAL_NETWORK_NOT_FOUND", "network missing on the target"),
    0x80011000: _operator("LICENSE_NOT_VALID", "licence"),
    0x80011001: _operator("LICENSE_EXPIRED", "licence"),
    0x80011059: _operator("LICENSE_RESTRICTED_CPU_COUNT", "licence"),
    0x80027027: _verify("CT_NOT_FOUND", "container not there: maybe moved already", _O),
    0x80027035: _permanent("VMCONF_EFI_UNSUPPORTED_GUEST", "EFI guest and old target"),
}

_MIGRATION = {
    0x80030000: _transient("DISP2DISP_SESSION_ALREADY_AUTHORIZED", "race on a connection", before=True),
    0x80030001: _reprepare("DISP2DISP_WRONG_USER_SESSION_UUID", "the destination's login is gone"),
    0x80031000: _permanent("VM_MIGRATE_CHECKING_PRECONDITIONS_FAILED", "no cause given", before=True),
    0x80031004: _permanent("VM_MIGRATE_NOT_ENOUGH_CPUS_ON_TARGET", "choose another host", before=True),
    0x80031005: _permanent("VM_MIGRATE_NON_COMPATIBLE_CPU_ON_TARGET_SHORT", "choose another host", before=True),
    0x80031015: _operator("VM_MIGRATE_NOT_ENOUGH_DISK_SPACE_ON_TARGET", "free some space", before=True),
    0x80031017: _permanent("VM_MIGRATE_UNSUITABLE_VM_STATE", "container with the hot flag"),
    0x80031018: _transient("VM_MIGRATE_FILECOPY_PROTOCOL", "bundle copy; the target cleans up", tries=2),
    0x80031019: _operator("VM_MIGRATE_FILECOPY_DIR_EXIST", "bundle copy"),
    0x80031020: _operator("VM_MIGRATE_FILECOPY_FILE_EXIST", "bundle copy"),
    0x80031021: _operator("VM_MIGRATE_FILECOPY_CANT_CREATE_DIR", "bundle copy"),
    0x80031022: _operator("VM_MIGRATE_FILECOPY_CANT_OPEN_FILE", "bundle copy"),
    0x80031023: _operator("VM_MIGRATE_FILECOPY_CANT_WRITE", "bundle copy"),
    0x80031024: _transient("VM_MIGRATE_FILECOPY_INTERNAL", "bundle copy; the target cleans up", tries=2),
    0x80031026: _verify("VM_MIGRATE_VM_HOME_ALREADY_EXISTS_ON_TARGET", "leftovers on the target", _O, before=True),
    0x80031027: _operator("VM_MIGRATE_REMOTE_DEVICE_IS_ATTACHED", "detach the device", before=True),
    0x80031029: _verify("VM_MIGRATE_RESUME_FAILED", "old target: copied, not resumed", _O),
    0x80031031: _transient("VM_MIGRATE_REGISTER_VM_FAILED", "target directory; try once more", tries=1, then=_O),
    0x80031034: _verify("VM_MIGRATE_VM_ALREADY_MIGRATE_ON_TARGET", "an earlier try may still run there", _T),
    0x80031035: _verify("CT_MIGRATE_INTERNAL_ERROR", "vzmigrate failed", _T, tries=1),
    0x80031037: _permanent("VM_MIGRATE_CANNOT_REMOTE_CLONE_SHARED_VM", "storage layout", before=True),
    0x80031038: _verify("VM_MIGRATE_CONTINUE_START_FAILED", "old target: copied, not resumed", _O),
    0x80031040: _permanent("VM_MIGRATE_WARM_MODE_NOT_SUPPORTED", "very old target"),
    0x80031043: _permanent("VM_MIGRATE_NON_COMPATIBLE_CPU_ON_TARGET", "choose another host", before=True),
    0x80031044: _verify("CT_MIGRATE_ID_ALREADY_EXIST", "an earlier try won, or leftovers", _O),
    0x80031045: _permanent("VM_MIGRATE_TO_THE_SAME_NODE", "the target is the source"),
    0x80031046: _operator("VM_MIGRATE_ACCESS_TO_VM_DENIED", "rights on the VM"),
    0x80031047: _done("VM_MIGRATE_ERROR_DELETE_VM", "a warning; clean the source"),
    0x80031048: _done("VM_MIGRATE_ERROR_UNREGISTER_VM", "a warning; clean the source"),
    0x80031049: _verify("CT_MIGRATE_TARGET_ALREADY_EXISTS", "an earlier try won, or leftovers", _O),
    0x80031051: _verify("VM_MIGRATE_EXT_DISK_DIR_ALREADY_EXISTS_ON_TARGET", "leftovers on the target", _O, before=True),
    0x80031052: _operator("VM_MIGRATE_CANNOT_CREATE_DIRECTORY", "file system of the target"),
    0x80031053: _permanent("VM_MIGRATE_TARGET_INSIDE_SHARED_VM_PRIVATE", "storage layout", before=True),
    0x80031054: _transient("CT_MIGRATE_EXTERNAL_PROCESS", "foreign process in the container", slow=True),
    0x80031055: _operator("VM_MIGRATE_SNAPSHOT_DETECTED", "VM has snapshots", before=True),
    0x80037000: _verify("BACKUP_INTERNAL_PROTO_ERROR", "request between the dispatchers failed", _T),
    0x80041103: _operator("ADMIN_CONFIRMATION_IS_REQUIRED_BY_VM", "interactive confirmation"),
    0x80041104: _operator("ADMIN_CONFIRMATION_IS_REQUIRED_BY_PARALLELS_SERVER", "interactive confirmation"),
    0x80041203: _permanent("CHANGESID_NOT_SUPPORTED", "only with a flag that is never set"),
    0x80044006: _permanent("VZ_OPERATION_FAILED", "the text says why"),
    0x80044010: _operator("VZCTL_OPERATION_FAILED", "vzctl's own code is in the event"),
    0x80046401: _operator("TEMPLATE_NOT_FOUND", "container template missing on the target"),
    0x80046900: _transient("CLUSTER_RESOURCE_ERROR", "cluster registration on the target", tries=2, then=_O),
}

_LOCKS_SLOW = {
    0x00: "CLONE", 0x10: "CREATE_SNAPSHOT", 0x11: "SWITCH_SNAPSHOT", 0x12: "DELETE_SNAPSHOT",
    0x13: "BACKUP", 0x14: "RESTORE", 0x15: "CTL_BACKUP", 0x16: "DISK_RESIZE", 0x17: "COMPACT",
    0x18: "CONVERT", 0x23: "COPY_IMAGE", 0x24: "MOVE",
}  # fmt: skip
_LOCKS = {
    0x03: "EDIT_COMMIT", 0x04: "EXECUTE", 0x05: "EXECUTE_EX", 0x07: "EDIT_WITH_RENAME",
    0x08: "UPDATE_SECURITY", 0x22: "FIREWALL",
}  # fmt: skip
_GOING = {0x01: "DELETE", 0x02: "UNREGISTER"}

_LOCKED = {
    0x80038106: _transient("VM_LOCKED_FOR_INTERNAL_REASON", "unknown operation", tries=2, before=True),
    0x80038109: _verify("VM_LOCKED_FOR_MIGRATE", "a migration of this VM runs: perhaps ours", _O),
    **{
        0x80038100 + number: _transient(
            f"VM_LOCKED_FOR_{name}", "exclusive operation in progress", before=True, slow=True
        )
        for number, name in (_LOCKS_SLOW | _LOCKS).items()
    },
    **{
        0x80038100 + number: _verify(f"VM_LOCKED_FOR_{name}", "VM is going away", _P, before=True)
        for number, name in _GOING.items()
    },
}

CODES: dict[int, Code] = {
    0: Code("PRL_ERR_SUCCESS", Retry.DONE, "moved", Retry.DONE),
    31028: Code("PRL_INFO_VM_MIGRATE_STORAGE_IS_SHARED", Retry.DONE, "informs only", Retry.DONE),
    **_GENERAL,
    **_MIGRATION,
    **_LOCKED,
}
"""Unsigned return code -> its entry."""
