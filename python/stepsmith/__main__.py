"""``python -m stepsmith``."""

import sys

from stepsmith.cli import main

sys.exit(main())
