"""``vp3d detectors``: the detectors, and what each of them needs."""

from __future__ import annotations

import json

from vp3d_cli.cli.common import AsJson, format_table


def detectors(as_json: AsJson = False) -> None:
    """List the detectors and what they need.

    \b
    vp3d detectors
    vp3d infer video.mp4 --detector movenet-fast
    vp3d infer video.mp4 --detector cpn:weights=CPN50_384x288.pth.tar,boxes=movenet

    Options of a detector follow its name: NAME:KEY=VALUE,KEY=VALUE.
    """
    from vp3d_cli.detect.base import list_detectors

    infos = list_detectors().values()
    if as_json:
        fields = [
            {"name": i.name, "summary": i.summary, "licence": i.licence, "usage": i.usage, "problem": i.available()}
            for i in infos
        ]
        print(json.dumps(fields, indent=2))
        return
    rows = [("name", "usable", "licence", "what it is")]
    rows += [(i.name, "yes" if i.available() is None else "no", i.licence, i.summary) for i in infos]
    print(format_table(rows))
    for info in infos:
        if info.usage:
            print(f"--detector {info.usage}")
    for info in infos:
        if (problem := info.available()) is not None:
            print(f"{info.name}: {problem}")
