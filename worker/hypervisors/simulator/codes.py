"""The dispatcher's result codes that the simulator produces, as the SDK's headers write them.

Numbers are ``PRL_ERR_*`` (the header's digits are hexadecimal); texts are the simulator's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum


class Code(IntEnum):
    """``PRL_ERR_*`` without the prefix, unsigned."""

    SUCCESS = 0
    INVALID_ARG = 0x80000003
    ACCESS_DENIED = 0x80000005
    UNINITIALIZED = 0x80000007
    UNIMPLEMENTED = 0x80000008
    FAILURE = 0x80000009
    OPERATION_PENDING = 0x80000013
    TIMEOUT = 0x80000015
    OPERATION_FAILED = 0x80000016
    USER_OPERATION_NOT_AUTHORISED = 0x80000059
    VM_ALREADY_REGISTERED_VM_UUID = 0x80000062
    VM_ALREADY_REGISTERED_VM_PATH = 0x80000063
    UNRECOGNIZED_REQUEST = 0x80000091
    TASK_NOT_FOUND = 0x80000092
    NOT_ALL_FILES_WAS_DELETED = 0x80000102
    VM_UUID_NOT_FOUND = 0x80000105
    VM_ALREADY_REGISTERED_VM_NAME = 0x80000115
    WS_DISP_CONNECTION_CLOSED = 0x80000246
    CANT_CONNECT_TO_DISPATCHER = 0x80000249
    NOT_CONNECTED_TO_DISPATCHER = 0x80000251
    ALREADY_CONNECTED_TO_DISPATCHER = 0x80000252
    OPERATION_WAS_CANCELED = 0x80000275
    WRONG_CONNECTION_SECURITY_LEVEL = 0x80000277
    ATTACH_TO_TASK_BAD_SESSION = 0x80000349
    DISP_SHUTDOWN_IN_PROCESS = 0x80000404
    CANT_CONNECT_TO_DISPATCHER_ITERATIVELY = 0x80000510
    CANT_RESOLVE_HOSTNAME = 0x80000511
    INVALID_ACTION_REQUESTED = 0x80000516
    DISP2DISP_SESSION_ALREADY_AUTHORIZED = 0x80030000
    DISP2DISP_WRONG_USER_SESSION_UUID = 0x80030001
    VM_MIGRATE_CHECKING_PRECONDITIONS_FAILED = 0x80031000
    VM_MIGRATE_NOT_ENOUGH_CPUS_ON_TARGET = 0x80031004
    VM_MIGRATE_NOT_ENOUGH_DISK_SPACE_ON_TARGET = 0x80031015
    VM_MIGRATE_REMOTE_DEVICE_IS_ATTACHED = 0x80031027
    VM_MIGRATE_VM_ALREADY_MIGRATE_ON_TARGET = 0x80031034
    VM_MIGRATE_NON_COMPATIBLE_CPU_ON_TARGET = 0x80031043
    VM_MIGRATE_TO_THE_SAME_NODE = 0x80031045
    VM_MIGRATE_ERROR_DELETE_VM = 0x80031047
    VM_MIGRATE_ERROR_UNREGISTER_VM = 0x80031048
    VM_MIGRATE_SNAPSHOT_DETECTED = 0x80031055


TEXTS = {
    Code.INVALID_ARG: "An argument of the call is not valid.",
    Code.ACCESS_DENIED: "Access is denied: the task belongs to another session.",
    Code.UNINITIALIZED: "The job has not finished yet.",
    Code.UNIMPLEMENTED: "This is not implemented for such a virtual machine.",
    Code.OPERATION_PENDING: "The operation is still pending.",
    Code.TIMEOUT: "The other side did not answer in time.",
    Code.OPERATION_FAILED: "The operation failed.",
    Code.USER_OPERATION_NOT_AUTHORISED: "Log in first.",
    Code.VM_ALREADY_REGISTERED_VM_UUID: "A virtual machine with this uuid is registered on the target.",
    Code.VM_ALREADY_REGISTERED_VM_PATH: "A virtual machine with this path is registered on the target.",
    Code.VM_ALREADY_REGISTERED_VM_NAME: "A virtual machine with this name is registered on the target.",
    Code.TASK_NOT_FOUND: "There is no such task, or it has finished.",
    Code.VM_UUID_NOT_FOUND: "There is no such virtual machine here.",
    Code.WS_DISP_CONNECTION_CLOSED: "The connection to the dispatcher was closed.",
    Code.CANT_CONNECT_TO_DISPATCHER: "The dispatcher cannot be reached.",
    Code.NOT_CONNECTED_TO_DISPATCHER: "There is no connection to the dispatcher.",
    Code.ALREADY_CONNECTED_TO_DISPATCHER: "This connection is logged in already.",
    Code.OPERATION_WAS_CANCELED: "The operation was cancelled.",
    Code.WRONG_CONNECTION_SECURITY_LEVEL: "The security level is below what the dispatcher asks for.",
    Code.ATTACH_TO_TASK_BAD_SESSION: "The task belongs to another session than the previous one.",
    Code.DISP_SHUTDOWN_IN_PROCESS: "The dispatcher is shutting down.",
    Code.CANT_CONNECT_TO_DISPATCHER_ITERATIVELY: "The target dispatcher cannot be reached.",
    Code.CANT_RESOLVE_HOSTNAME: "The target's host name cannot be resolved.",
    Code.INVALID_ACTION_REQUESTED: "The virtual machine's state does not allow this.",
    Code.DISP2DISP_WRONG_USER_SESSION_UUID: "The target knows no session with this uuid.",
    Code.VM_MIGRATE_CHECKING_PRECONDITIONS_FAILED: "Preconditions of the migration are not met.",
    Code.VM_MIGRATE_NOT_ENOUGH_CPUS_ON_TARGET: "The target has too few CPUs.",
    Code.VM_MIGRATE_NOT_ENOUGH_DISK_SPACE_ON_TARGET: "The target has too little free disk space.",
    Code.VM_MIGRATE_REMOTE_DEVICE_IS_ATTACHED: "A remote device is attached to the virtual machine.",
    Code.VM_MIGRATE_VM_ALREADY_MIGRATE_ON_TARGET: "The target is already receiving this virtual machine.",
    Code.VM_MIGRATE_NON_COMPATIBLE_CPU_ON_TARGET: "The target's CPU model is not compatible.",
    Code.VM_MIGRATE_TO_THE_SAME_NODE: "The target is the host the virtual machine is on.",
    Code.VM_MIGRATE_ERROR_DELETE_VM: "The virtual machine moved, but its source copy was not deleted.",
    Code.VM_MIGRATE_ERROR_UNREGISTER_VM: "The virtual machine moved, but is still registered on the source.",
    Code.VM_MIGRATE_SNAPSHOT_DETECTED: "The virtual machine has snapshots.",
}

LOCKED_FOR = {
    name: 0x80038100 + number
    for name, number in {
        "clone": 0x00,
        "delete": 0x01,
        "unregister": 0x02,
        "edit-commit": 0x03,
        "execute": 0x04,
        "execute-ex": 0x05,
        "internal": 0x06,
        "edit-with-rename": 0x07,
        "update-security": 0x08,
        "migrate": 0x09,
        "create-snapshot": 0x10,
        "switch-snapshot": 0x11,
        "delete-snapshot": 0x12,
        "backup": 0x13,
        "restore": 0x14,
        "ctl-backup": 0x15,
        "disk-resize": 0x16,
        "compact": 0x17,
        "convert": 0x18,
        "firewall": 0x22,
        "copy-image": 0x23,
        "move": 0x24,
    }.items()
}
"""Exclusive operation on a VM -> ``PRL_ERR_VM_LOCKED_FOR_*`` that another operation then gets."""

_NATURAL_STEPS = {
    1: (0x80000404, 0x80000105, 0x80031045, 0x80000239),
    3: (0x80031000,),
    4: (
        0x80000059, 0x80000277, 0x80000412, 0x80000413, 0x80000414, 0x80000510, 0x80000511,
        0x80030000, 0x80030001,
    ),
    5: (
        0x80000062, 0x80000063, 0x80000114, 0x80000115, 0x80000447, 0x80031015, 0x80031026, 0x80031034,
        0x80031037, 0x80031051, 0x80031053, 0x80031055,
    ),
    12: (0x80031047, 0x80031048, 0x80000102),
}  # fmt: skip


def describe(code: int) -> str:
    """The text of a code (``PrlApi_GetResultDescription``)."""
    for operation, locked in LOCKED_FOR.items():
        if code == locked:
            return f"The virtual machine is locked for the operation {operation}."
    try:
        known = Code(code)
    except ValueError:
        return f"Error 0x{code:08x}."
    return TEXTS.get(known, f"PRL_ERR_{known.name}")


def natural_step(code: int) -> int:
    """The step of a migration at which a dispatcher gives this code; 10, the copying, where it may be any."""
    if code in LOCKED_FOR.values():
        return 2
    return next((step for step, codes in _NATURAL_STEPS.items() if code in codes), 10)


class TaskError(Exception):
    """A dispatcher's request or task failed.

    ``nested`` holds the codes inside the envelope ``VM_MIGRATE_CHECKING_PRECONDITIONS_FAILED``.
    """

    def __init__(self, code: int, text: str = "", nested: Sequence[int] = ()) -> None:
        self.code = int(code)
        self.text = text or describe(self.code)
        self.nested = [int(item) for item in nested]
        super().__init__(f"{self.text} (0x{self.code:08x})")
