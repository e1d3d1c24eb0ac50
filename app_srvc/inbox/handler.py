"""The work of one document: it is kept."""

from datetime import datetime

from sqlalchemy.orm import Session

from app_srvc.inbox.model import InboxItem
from app_srvc.inbox.schemas import Document
from app_srvc.messages.handling import Effect, HandlerContext


def handle(document: Document, context: HandlerContext) -> Effect:
    def keep(session: Session, now: datetime) -> None:
        session.add(
            InboxItem(
                message_id=context.message_id,
                content_type=document.content_type,
                body=document.body,
                created_at=now,
            )
        )

    return Effect(apply=keep, result={"content_type": document.content_type})
