"""`python -m wanasync` is the command `wanasync`."""

import sys

from wanasync.cli import main

sys.exit(main())
