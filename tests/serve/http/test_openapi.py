import json
from pathlib import Path

from clips4.serve.http.api import Api
from clips4.serve.http.openapi import describe

DOCUMENT = Path(__file__).parents[3] / "docs/reference/page-api.json"


def test_openapi_describes_every_endpoint(api: Api) -> None:
    document = describe(api.endpoints())
    for each in api.endpoints():
        operation = document["paths"][each.path][each.method.lower()]
        assert operation["summary"].endswith(".")
        assert ("requestBody" in operation) == (each.body is not None)
    references = json.dumps(document).count("#/components/schemas/")
    assert references >= len(document["components"]["schemas"])


def test_openapi_of_the_docs_is_the_current_one(api: Api) -> None:
    document = json.loads(DOCUMENT.read_text("utf-8"))
    assert document == json.loads(json.dumps(describe(api.endpoints())))
