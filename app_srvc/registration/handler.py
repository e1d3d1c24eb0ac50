"""The work of one registration: the user is written, once."""

from datetime import datetime

from sqlalchemy.orm import Session

from app_srvc.errors import PermanentError
from app_srvc.messages.handling import Effect, HandlerContext
from app_srvc.registration import store
from app_srvc.registration.model import User
from app_srvc.registration.schemas import Registration


def handle(registration: Registration, context: HandlerContext) -> Effect:
    def write_user(session: Session, now: datetime) -> None:
        if store.find_by_login(session, registration.login) is not None:
            raise PermanentError("login_taken", "This login is taken. Please choose another one.")
        session.add(
            User(
                first_name=registration.first_name,
                last_name=registration.last_name,
                login=registration.login,
                email=registration.email,
                phone=registration.phone,
                status="O",
                created_at=now,
                message_id=context.message_id,
            )
        )

    return Effect(apply=write_user, result={"login": registration.login})
