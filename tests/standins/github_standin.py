"""A stand-in of GitHub's REST API: the token's own account, `token` and `Bearer` alike."""

from __future__ import annotations

from aiohttp import web

from valetkey.demo.standin import StandIn, bearer


class GitHubStandIn(StandIn):
    """Refuses calls without a User-Agent, as GitHub does."""

    def key_of(self, request: web.Request) -> str | None:
        return bearer(request, "bearer", "token")

    def refusal(self, key: str | None) -> web.Response:
        return _error(401, "Requires authentication" if key is None else "Bad credentials")

    def failure(self, status: int) -> web.Response:
        answer = _error(status, "Made on demand.")
        if status in (403, 429):
            answer.headers["x-ratelimit-remaining"] = "0"
        return answer

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/user", self.user)]

    async def user(self, request: web.Request) -> web.Response:
        if not request.headers.get("User-Agent"):
            return _error(403, "Request forbidden: send a User-Agent header.")
        account = {"login": "standin", "id": 1, "type": "User", "url": f"{self.url}/users/standin"}
        return web.json_response(account, headers={"x-github-request-id": "STAND:IN"})


def _error(status: int, message: str) -> web.Response:
    body = {"message": message, "documentation_url": "https://docs.github.com/rest", "status": str(status)}
    return web.json_response(body, status=status)
