"""Check that every public symbol has a known type, as basedpyright sees it: ``python .ci/verify_types.py``.

Spark's modules are left out: their base classes are pyspark's, which is installed for the engines only (500 MB).
"""

import json
import subprocess
import sys

LEFT_OUT = ("distinct_async.spark.", "distinct_async.pyspark_distinct.")


def main() -> int:
    """Print each symbol without a known type, and return 1 if there is one."""
    command = ["basedpyright", "--ignoreexternal", "--verifytypes", "distinct_async", "--outputjson"]
    report = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=False).stdout)
    symbols = report["typeCompleteness"]["symbols"]
    unknown = [each for each in symbols if each["isExported"] and not each["isTypeKnown"]]
    found = [each for each in unknown if not each["name"].startswith(LEFT_OUT)]
    for each in found:
        print(each["name"], *(problem["message"] for problem in each["diagnostics"]), sep="\n  ")
    print(f"{len(symbols):,} symbols, {len(found)} of them without a known type")
    return bool(found or not symbols)


if __name__ == "__main__":
    sys.exit(main())
