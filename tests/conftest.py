"""What tests keep on disk is not the user's."""
from __future__ import annotations

import atexit
import os
import shutil
import tempfile

os.environ["MANTRA_HOME"] = tempfile.mkdtemp(prefix="mantra-tests-")
atexit.register(shutil.rmtree, os.environ["MANTRA_HOME"], ignore_errors=True)
