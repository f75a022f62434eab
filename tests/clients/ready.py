"""Succeeds when the server at the address given says that it is ready."""

import sys
import urllib.request

opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
sys.exit(opener.open(sys.argv[1] + "/ready", timeout=5).status != 200)
