"""Measure cloudtap beside tap-as-a-service on one Neutron each, and write the table of the docs.

`.venv/bin/python -m tests.neutron.compare` runs each product in a private network and Open vSwitch
of its own, one after the other, and puts the table into docs/compared-with-tap-as-a-service.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.neutron.cloud import NeutronCloud, build_neutron_cloud
from tests.neutron.neutron import Neutron, why_not_here
from tests.neutron.products import Product, Taas, start_cloudtap
from tests.neutron.rows import ROWS, first_copy
from tests.ovs.controller_process import ROOT, ControllerProcess
from tests.ovs.lab import Lab, LabError, vsctl

PAGE = ROOT / "docs" / "compared-with-tap-as-a-service.md"
BEGIN, END = "<!-- begin of what tests/neutron/compare.py writes -->", "<!-- end -->"
PRODUCTS = ("cloudtap", "taas")
FIRST_COPY = "request to first copy, median of 5 (lowest-highest)"
NOT_MEASURED = "not measured: see the log"

Measured = dict[str, str]


def measure(product: Product) -> Measured:
    """The value of each row, or what made it impossible to tell."""
    found: Measured = {}
    for row in ROWS:
        found[row.words] = _try(row.measure, product)
        print(f"{product.name}: {row.words}: {found[row.words]}", file=sys.stderr, flush=True)
    found[FIRST_COPY] = _try(first_copy, product)
    print(f"{product.name}: {FIRST_COPY}: {found[FIRST_COPY]}", file=sys.stderr, flush=True)
    return found


def _try(look: Any, product: Product) -> str:
    """A row that cannot be measured ends no others."""
    try:
        return str(look(product))
    except (AssertionError, LabError) as error:
        product.cloud.lab.install_markers()  # an agent may have deleted their flows
        print(f"{product.name}: {error!r}"[:2000], file=sys.stderr, flush=True)
        return NOT_MEASURED


def run_product(name: str, firewall: str) -> dict[str, Any]:
    """Start Neutron with one product, measure, and stop all."""
    with tempfile.TemporaryDirectory() as folder, Lab() as lab:
        neutron = Neutron(Path(folder), firewall, taas=name == "taas")
        with neutron:
            cloud = build_neutron_cloud(lab, neutron)
            found = _measure_on(name, cloud, Path(folder) / "cloudtap")
    return {"rows": found, "switch": vsctl("--version").split()[3]}


def _measure_on(name: str, cloud: NeutronCloud, folder: Path) -> Measured:
    if name == "taas":
        return measure(Taas(cloud))
    folder.mkdir()
    cloud.attach()
    with ControllerProcess(folder, cloud.inventory()) as controller:
        return measure(start_cloudtap(cloud, controller))


def table(found: dict[str, dict[str, Any]], firewall: str) -> str:
    """The table, with on what it was measured."""
    ours, theirs = (found[name]["rows"] for name in PRODUCTS)
    rights = {row.words: row.right for row in ROWS}
    lines = ["| what | right | cloudtap | tap-as-a-service 18.0.0 |", "|---|---|---|---|"]
    for words in ours:
        right = rights.get(words, "")
        values = [_marked(each[words], right) for each in (ours, theirs)]
        lines.append(f"| {words} | {right} | {' | '.join(values)} |")
    day = datetime.now(UTC).date()
    machine = (
        f"Measured {day}: firewall driver `{firewall}`, Open vSwitch {found['cloudtap']['switch']} "
        f"(userspace datapath), {os.cpu_count()} processors with other work on them, "
        f"cloudtap {version('cloudtap')}."
    )
    return "\n".join([*lines, "", machine])


def _marked(value: str, right: str) -> str:
    return value if not right or value == right else f"**{value}**"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--product", choices=PRODUCTS, help="measure this one here, print JSON")
    parser.add_argument("--firewall", default="openvswitch", choices=("openvswitch", "noop"))
    chosen = parser.parse_args()
    if (reason := why_not_here()) is not None:
        sys.exit(reason)
    if chosen.product is not None:
        print(json.dumps(run_product(chosen.product, chosen.firewall)))
        return
    found = {}
    for name in PRODUCTS:
        command = [sys.executable, "-m", "tests.neutron.compare", "--firewall", chosen.firewall]
        done = subprocess.run(
            [str(ROOT / "tools" / "isolate"), *command, "--product", name],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            cwd=ROOT,
        )
        found[name] = json.loads(done.stdout.splitlines()[-1])
    written = table(found, chosen.firewall)
    print(written)
    if chosen.firewall == "openvswitch":
        before, _, rest = PAGE.read_text().partition(BEGIN)
        after = rest.partition(END)[2]
        PAGE.write_text(f"{before}{BEGIN}\n{written}\n{END}{after}")


if __name__ == "__main__":
    main()
