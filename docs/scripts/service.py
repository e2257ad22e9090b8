"""A service that labels videos: MUYBRIDGE_RUN=runs/tsm uvicorn service:app. See docs/production.md."""

import asyncio
import logging
import os
import time
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from starlette.requests import ClientDisconnect

import muybridge
from muybridge.errors import UserError

MOST_BYTES = int(os.environ.get("MUYBRIDGE_MOST_BYTES", 50 * 2**20))
AT_ONCE, WAITING = int(os.environ.get("MUYBRIDGE_AT_ONCE", 2)), int(os.environ.get("MUYBRIDGE_WAITING", 32))
predictor = muybridge.load(os.environ["MUYBRIDGE_RUN"])
app, turns, here = FastAPI(), asyncio.Semaphore(AT_ONCE), [0]


@app.get("/health")
async def health() -> dict[str, Any]:
    return {"run": predictor.answering.name, "classes": len(predictor.classes), "here": here[0]}


@app.post("/predict")
async def predict(request: Request, top: int = 5) -> dict[str, Any]:
    if here[0] >= AT_ONCE + WAITING:
        raise HTTPException(503, "too many videos are waiting; try again later", {"Retry-After": "1"})
    here[0] += 1
    try:
        video, begun = bytearray(), time.monotonic()
        async for part in request.stream():
            video += part
            if len(video) > MOST_BYTES:
                raise HTTPException(413, f"the video has more than {MOST_BYTES} bytes")
        async with turns:
            answer = await asyncio.to_thread(predictor, bytes(video), top=top)
    except UserError as error:  # the file is to blame: DecodeError is a UserError
        raise HTTPException(422, str(error)) from None
    except ClientDisconnect:
        raise HTTPException(400, "the client went away") from None
    finally:
        here[0] -= 1
    logging.getLogger("uvicorn").info(
        "%s %.3f %d bytes %.3f s", answer.label, answer.score, len(video), time.monotonic() - begun
    )
    return {"label": answer.label, "score": answer.score, "predictions": [one.as_json() for one in answer]}
