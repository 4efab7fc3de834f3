"""Prober: a load generator good enough to prove that no request was lost.

What counts as lost: every request that was due and did not get its complete, right answer within
its timeout, whatever the cause, the prober's own saturation included. A request that was sent and
got no answer is lost; it is never sent again.

What does not count: a connection that the server ends *between* two requests (`Connection: close`,
an idle close, a WebSocket close frame), and an HTTP/2 stream of which the server says itself that
it did not process it (above the last id of a GOAWAY, or REFUSED_STREAM): such a request goes out on
another connection, at most three times. The report shows both, as `retired` and `retried`.

An idle connection is asked of the kernel right before a request is written to it. If its end
arrives after that, the request was sent, and is lost: a server that closes idle connections without
saying so before (`Connection: close`, GOAWAY) does lose requests.
"""

from volery.prober.background import Running, probing
from volery.prober.plan import Kind, ProbePlan, Stream
from volery.prober.report import ProbeReport, Sample, StreamReport
from volery.prober.run import probe

__all__ = [
    "Kind",
    "ProbePlan",
    "ProbeReport",
    "Running",
    "Sample",
    "Stream",
    "StreamReport",
    "probe",
    "probing",
]
