"""Prints a property list as JSON.

    plist_to_json.py FILE
"""

import json
import plistlib
import sys

with open(sys.argv[1], "rb") as file:
    print(json.dumps(plistlib.load(file)))
