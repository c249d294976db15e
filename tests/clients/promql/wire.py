"""Remote write 1.0 by hand, so that the test needs no package: messages, and snappy that only copies."""

import struct
import urllib.request

total = sum

STALE = struct.unpack("<d", struct.pack("<Q", 0x7FF0000000000002))[0]


def varint(number):
    number &= (1 << 64) - 1
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def whole(field, number):
    return varint(field << 3) + varint(number)


def double(field, value):
    bits = STALE_BITS if value is STALE else struct.pack("<d", value)
    return varint(field << 3 | 1) + bits


# Python may change the bits of a NaN when it passes it on.
STALE_BITS = struct.pack("<Q", 0x7FF0000000000002)


def message(field, payload):
    return varint(field << 3 | 2) + varint(len(payload)) + payload


def zigzag(number):
    return number << 1 if number >= 0 else (-number << 1) - 1


class Histogram:
    """A native histogram; buckets are dictionaries of counts by index. Whole counts if all of them are ints."""

    HINTS = {"unknown": 0, "reset": 1, "no": 2, "gauge": 3}

    def __init__(self, schema=0, count=None, sum=0.0, zero=0, threshold=0.0, positive=None, negative=None, custom=(), hint="unknown"):
        self.schema, self.sum, self.zero, self.threshold = schema, sum, zero, threshold
        self.positive, self.negative = dict(positive or {}), dict(negative or {})
        self.custom, self.hint = list(custom), hint
        inside = zero + total(self.positive.values()) + total(self.negative.values())
        self.count = inside if count is None else count

    def is_whole(self):
        numbers = [self.count, self.zero, *self.positive.values(), *self.negative.values()]
        return all(isinstance(number, int) for number in numbers)

    def encode(self, time):
        whole_counts = self.is_whole()
        out = whole(1, self.count) if whole_counts else double(2, float(self.count))
        out += double(3, self.sum) + whole(4, zigzag(self.schema)) + double(5, self.threshold)
        out += whole(6, self.zero) if whole_counts else double(7, float(self.zero))
        for buckets, field in ((self.negative, 8), (self.positive, 11)):
            out += encode_buckets(buckets, field, whole_counts)
        out += whole(14, self.HINTS[self.hint]) + whole(15, time)
        if self.custom:
            out += message(16, b"".join(struct.pack("<d", bound) for bound in self.custom))
        return out




def encode_buckets(buckets, field, whole_counts):
    out, counts, spans, end = b"", [], [], None
    for index in sorted(buckets):
        if end is not None and index == end:
            spans[-1][1] += 1
        else:
            spans.append([index - (end or 0), 1])
        end = index + 1
        counts.append(buckets[index])
    for offset, length in spans:
        out += message(field, whole(1, zigzag(offset)) + whole(2, length))
    if counts and whole_counts:
        before, deltas = 0, b""
        for count in counts:
            deltas += varint(zigzag(count - before))
            before = count
        out += message(field + 1, deltas)
    elif counts:
        out += message(field + 2, b"".join(struct.pack("<d", float(count)) for count in counts))
    return out


def request(series):
    """`series` is a list of (labels, [(milliseconds, value)]) where a value is a float, STALE or a Histogram."""
    out = bytearray()
    for labels, samples in series:
        one = bytearray()
        for name in sorted(labels):
            one += message(1, message(1, name.encode()) + message(2, labels[name].encode()))
        for time, value in samples:
            if isinstance(value, Histogram):
                one += message(4, value.encode(time))
            else:
                one += message(2, double(1, value) + whole(2, time))
        out += message(1, bytes(one))
    return bytes(out)


def snappy(data):
    """A snappy block of literals."""
    out = bytearray(varint(len(data)))
    for at in range(0, len(data), 65536):
        chunk = data[at : at + 65536]
        out += bytes([61 << 2]) + struct.pack("<H", len(chunk) - 1) + chunk
    return bytes(out)


def write(base, series):
    headers = {
        "Content-Encoding": "snappy",
        "Content-Type": "application/x-protobuf",
        "X-Prometheus-Remote-Write-Version": "0.1.0",
    }
    sent = urllib.request.Request(base + "/api/v1/write", data=snappy(request(series)), headers=headers)
    with urllib.request.urlopen(sent) as reply:
        assert reply.status in (200, 204), reply.status
