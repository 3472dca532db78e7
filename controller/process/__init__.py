"""How this process and its children behave: fair use of one processor, logs, metrics, signals."""

from controller.process.background_thread import BackgroundThread
from controller.process.certificate_dates import (
    CertificateWatch,
    OwnCertificates,
    Validity,
    end_words,
)
from controller.process.change_signal import ChangeSignal
from controller.process.child import ChildProcess, ChildProgram, connect_to_parent
from controller.process.coalescer import Coalescer
from controller.process.files import (
    CERTIFICATE_BYTES_MAX,
    PID_BYTES_MAX,
    TOKEN_BYTES_MAX,
    Access,
    UnusableFile,
    check_access,
    load_tls_files,
    read_file,
    sync_folder,
    write_file,
)
from controller.process.garbage import building_permanent_objects, expect_many_objects
from controller.process.json_slices import read_objects, write_list
from controller.process.logs import LostLines, configure_logs
from controller.process.messages import (
    MESSAGE_LENGTHS,
    Message,
    MessageSocket,
    PeerGone,
    read_head,
    read_lengths,
)
from controller.process.metrics import (
    APPLY_SECONDS,
    CLAIMS_REFUSED,
    DRIFTS,
    HTTP_CONNECTIONS,
    HTTP_REFUSALS,
    LOOP_MONITOR,
    LOOP_SILENCE_S,
    NUMBERS_REUSED,
    PLANS,
    REGISTRY,
    forget_bridge_metrics,
)
from controller.process.renewed_files import LOOK_AT_FILES_S, RenewedFiles
from controller.process.service_manager import ServiceManager
from controller.process.suggest import did_you_mean
from controller.process.text import visible, visible_lines
from controller.process.time_slices import TIME_SLICES, Yielder

__all__ = [
    "APPLY_SECONDS",
    "CERTIFICATE_BYTES_MAX",
    "CLAIMS_REFUSED",
    "DRIFTS",
    "HTTP_CONNECTIONS",
    "HTTP_REFUSALS",
    "LOOK_AT_FILES_S",
    "LOOP_MONITOR",
    "LOOP_SILENCE_S",
    "MESSAGE_LENGTHS",
    "NUMBERS_REUSED",
    "PID_BYTES_MAX",
    "PLANS",
    "REGISTRY",
    "TIME_SLICES",
    "TOKEN_BYTES_MAX",
    "Access",
    "BackgroundThread",
    "CertificateWatch",
    "ChangeSignal",
    "ChildProcess",
    "ChildProgram",
    "Coalescer",
    "LostLines",
    "Message",
    "MessageSocket",
    "OwnCertificates",
    "PeerGone",
    "RenewedFiles",
    "ServiceManager",
    "UnusableFile",
    "Validity",
    "Yielder",
    "building_permanent_objects",
    "check_access",
    "configure_logs",
    "connect_to_parent",
    "did_you_mean",
    "end_words",
    "expect_many_objects",
    "forget_bridge_metrics",
    "load_tls_files",
    "read_file",
    "read_head",
    "read_lengths",
    "read_objects",
    "sync_folder",
    "visible",
    "visible_lines",
    "write_file",
    "write_list",
]
