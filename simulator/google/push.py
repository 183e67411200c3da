"""Gmail's push notifications: who is watched, for how long, and what would be published to the topic.

A mailbox has one watch, for seven days, and publishes to a topic of the developer's project to which Gmail was granted publishing
(users.watch in the discovery document). `topics` is the back door: the topics that exist -> whether Gmail may publish to them.
Nothing is published here; `payload` is what a push of Pub/Sub would bring. Bodies of the errors: as reported in
dacastro4/laravel-gmail#285 and googleapis/google-api-nodejs-client#1301.
"""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from simulator.google.discovery import GoogleError, Json, invalid

LIFE = timedelta(days=7)


@dataclass(slots=True)
class Pushes:
    topics: dict[str, bool] = field(default_factory=dict)
    watched: dict[str, tuple[str, frozenset[str], datetime]] = field(default_factory=dict)  # address -> topic, labels, until

    def watch(self, address: str, body: Json, now: datetime) -> datetime:
        """Return until when the mailbox is watched. Raises: GoogleError."""
        topic = body.get("topicName") or ""
        if not re.fullmatch(r"projects/[^/]+/topics/[^/]+", topic):
            raise invalid("Invalid topicName does not match projects/project-id/topics/*")
        tried = f"Error sending test message to Cloud PubSub {topic} : "
        if topic not in self.topics:
            raise GoogleError(404, "notFound", f"{tried}Resource not found (resource={topic.rpartition('/')[2]}).")
        if not self.topics[topic]:
            raise GoogleError(403, "forbidden", f"{tried}User not authorized to perform this action.")
        before = self.watched.get(address)
        if before is not None and before[0] != topic and before[2] > now:
            raise invalid("Only one user push notification client allowed per developer (call /stop then try again)")
        self.watched[address] = (topic, frozenset(body.get("labelIds") or []), now + LIFE)
        return now + LIFE

    def stop(self, address: str) -> None:
        self.watched.pop(address, None)


def payload(address: str, history_id: int) -> bytes:
    """Return the body of a push: Pub/Sub wraps what Gmail publishes (Gmail's guide to push notifications)."""
    data = json.dumps({"emailAddress": address, "historyId": history_id}).encode()
    message = {"data": base64.urlsafe_b64encode(data).decode(), "messageId": "2070443601311540"}
    return json.dumps({"message": message, "subscription": "projects/ssi/subscriptions/mail"}).encode()
