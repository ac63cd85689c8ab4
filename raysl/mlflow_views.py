"""What MLflow's page shows of a study: saved views of its experiment, and the links to them."""

import json
import urllib.request
from collections.abc import Mapping
from typing import Any


def saved_views(study: Mapping[str, Any]) -> dict[str, str]:
    """Experiment tags with a table of the trials and a chart of the curves, as the page saves them.

    Without them the table shows no metric, and the chart is small and linear in the size. Their
    form is MLflow's own affair (seen in 3.17); where it changes, the page falls back to its own.
    """
    metric = f"test/{study['objective']}"
    shown_tags = ("arm", study["size_axis"], "seed", "phase", "status", "flags")
    shown_metrics = (metric, f"val/{study['objective']}", "cost/seconds")
    trials = {
        "searchFilter": "tags.`raysl.kind` = 'trial'",
        "selectedColumns": [
            *(f"tags.`raysl.{name}`" for name in shown_tags),
            *(f"metrics.`{name}`" for name in shown_metrics),
            "attributes.`Created`",
            "attributes.`Duration`",
        ],
    }
    chart = {
        "uuid": "curve",
        "type": "LINE",
        "metricSectionId": "curve",
        "metricKey": f"curve/{metric}",
        "selectedMetricKeys": [f"curve/{metric}"],
        "xAxisKey": "step",
        "xAxisScaleType": "log",
        "useGlobalXaxisKey": False,
        "scaleType": "linear",
        "lineSmoothness": 0,
        "useGlobalLineSmoothing": False,
        "displayPoints": True,
        "range": {},
        "runsCountToCompare": 100,
        "deleted": False,
        "isGenerated": False,
    }
    section = {"uuid": "curve", "name": "curve/test", "display": True, "columns": 1}
    curves = {
        "searchFilter": f"tags.`raysl.kind` = 'curve' AND tags.`raysl.metric` = '{metric}'",
        "compareRunCharts": [chart],
        "compareRunSections": [section | {"cardHeight": 500, "isReordered": False}],
    }
    views = {"trials": trials, "curves": curves}
    return {f"mlflow.sharedViewState.{name}": json.dumps(view) for name, view in views.items()}


def study_links(address: str) -> list[str]:
    """A line for each study in the server's store, the newest first: its trials and curves.

    Without workflowType the page opens on the tools for language models, empty here.
    """
    body = json.dumps({"max_results": 1000, "order_by": ["creation_time DESC"]}).encode()
    request = urllib.request.Request(
        f"{address}/api/2.0/mlflow/experiments/search",
        data=body,
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        found = json.load(answer).get("experiments", [])
    lines = []
    for experiment in found:
        if any(tag["key"] == "raysl.study_digest" for tag in experiment.get("tags", [])):
            page = f"{address}/#/experiments/{experiment['experiment_id']}/runs"
            view = f"{page}?workflowType=machine_learning&viewStateShareKey="
            lines.append(f"{experiment['name']}: trials {view}trials")
            lines.append(f"{experiment['name']}: curves {view}curves&compareRunsMode=CHART")
    return lines
