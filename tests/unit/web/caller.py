"""The API as a program with a token sees it."""

import populated


class Caller:
    """Calls `app` and gives the JSON of the answer; one of another status than expected fails the test."""

    def __init__(self, app, token=populated.TOKEN):
        self.http = app.test_client()
        self.headers = {"Authorization": f"Bearer {token}"}

    def __call__(self, method, path, expect=200, **options):
        answer = self.http.open(f"/api/v1{path}", method=method, headers=self.headers, **options)
        assert answer.status_code == expect, answer.get_data(as_text=True)
        return answer.get_json(force=True)

    def get(self, path, expect=200, **query):
        return self("GET", path, expect, query_string=query)

    def post(self, path, expect=200, **body):
        return self("POST", path, expect, json=body)
