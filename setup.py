"""Build step that puts the import hook for ryu beside the packages of an ordinary installation.

The hook file makes every Python of the environment load the repair of ryu 4.34
(controller/runtime/ryu_import_hook.py), also when ryu's own `ryu-manager` script is the one that
runs. An editable installation has no build folder to copy from: there our console script of the
same name does it.
"""

import os
import shutil

from setuptools import setup
from setuptools.command.build_py import build_py

HOOK = "zz_cloudtap_ryu.pth"


class BuildWithHook(build_py):
    """build_py that also copies the hook file to the root of the wheel."""

    def run(self) -> None:
        super().run()
        if not self._is_editable():
            shutil.copyfile(HOOK, self._target())

    def get_outputs(self, include_bytecode: int = 1) -> list[str]:
        outputs = super().get_outputs(include_bytecode)
        return outputs if self._is_editable() else [*outputs, self._target()]

    def _is_editable(self) -> bool:
        return bool(getattr(self, "editable_mode", False))

    def _target(self) -> str:
        return os.path.join(self.build_lib, HOOK)


setup(cmdclass={"build_py": BuildWithHook})
