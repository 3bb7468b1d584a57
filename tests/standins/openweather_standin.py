"""A stand-in of OpenWeather's API: the weather now, the key in the query as ``appid`` in any case."""

from __future__ import annotations

from aiohttp import web

from valetkey.demo.standin import StandIn


class OpenWeatherStandIn(StandIn):
    """Takes the last ``appid`` of the query, as a server that overwrites would."""

    def key_of(self, request: web.Request) -> str | None:
        found = [value for name, value in request.query.items() if name.lower() == "appid"]
        return found[-1] if found else None

    def refusal(self, key: str | None) -> web.Response:
        return _error(401, "Invalid API key." if key is None else f"Invalid API key: {key[:4]}...")

    def failure(self, status: int) -> web.Response:
        return _error(status, "Made on demand.")

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/data/2.5/weather", self.weather)]

    async def weather(self, request: web.Request) -> web.Response:
        place = request.query.get("q")
        if not place:
            return _error(400, "Nothing to geocode")
        body = {"cod": 200, "name": place, "main": {"temp": 281.5, "humidity": 70}, "dt": 1_700_000_000}
        return web.json_response(body)


def _error(status: int, message: str) -> web.Response:
    return web.json_response({"cod": status, "message": message}, status=status)
