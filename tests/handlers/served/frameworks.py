"""The frameworks that people use, each with one page."""


def flask_app():
    from flask import Flask, Response, request

    app = Flask(__name__)

    @app.route("/hello/<name>", methods=["GET", "POST"])
    def hello(name):
        return {
            "name": name,
            "q": request.args.get("q"),
            "body": request.get_data(as_text=True),
        }

    @app.get("/stream")
    def stream():
        return Response((f"{number}\n" for number in range(3)), mimetype="text/plain")

    @app.get("/raises")
    def raises():
        raise ValueError("in a view")

    return app


def django_app():
    from django.conf import settings
    from django.core.wsgi import get_wsgi_application
    from django.http import JsonResponse
    from django.urls import path

    def hello(request, name):
        return JsonResponse(
            {"name": name, "q": request.GET.get("q"), "body": request.body.decode()}
        )

    settings.configure(
        ROOT_URLCONF=(path("hello/<name>", hello),), ALLOWED_HOSTS=["*"], SECRET_KEY="x"
    )
    return get_wsgi_application()


def starlette_app():
    from starlette.applications import Starlette
    from starlette.background import BackgroundTask
    from starlette.responses import JSONResponse, StreamingResponse
    from starlette.routing import Route

    async def hello(request):
        return JSONResponse(
            {
                "name": request.path_params["name"],
                "q": request.query_params.get("q"),
                "body": (await request.body()).decode(),
            },
            background=BackgroundTask(print, "in the background", flush=True),
        )

    def in_a_thread(request):
        import os

        return JSONResponse(os.getpid())

    async def stream(request):
        return StreamingResponse((f"{n}\n" for n in range(3)), media_type="text/plain")

    async def raises(request):
        raise ValueError("in a view")

    return Starlette(
        routes=[
            Route("/hello/{name}", hello, methods=["GET", "POST"]),
            Route("/thread", in_a_thread),
            Route("/stream", stream),
            Route("/raises", raises),
        ]
    )


def fastapi_app():
    from fastapi import FastAPI, Request

    app = FastAPI()

    @app.api_route("/hello/{name}", methods=["GET", "POST"])
    async def hello(name: str, request: Request, q: str | None = None):
        return {"name": name, "q": q, "body": (await request.body()).decode()}

    return app


_MADE = {
    "flask": flask_app,
    "django": django_app,
    "starlette": starlette_app,
    "fastapi": fastapi_app,
}


def __getattr__(name):
    # Only the one that is asked for is imported.
    if name in _MADE:
        return _MADE[name]()
    raise AttributeError(name)
