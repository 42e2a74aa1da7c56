"""GPUs by the hour."""

from aitbc.coordinator.errors.base import AitbcError, Forbidden, InvalidRequest, NotFound
from aitbc.coordinator.errors.money import MoneyError


class GpuNotFound(NotFound):
    code = "GPU_NOT_FOUND"
    template = "There is no such GPU: {gpu_id}"


class BookingNotFound(NotFound):
    code = "BOOKING_NOT_FOUND"
    template = "There is no such booking: {booking_id}"


class GpuOffline(AitbcError):
    status = 409
    code = "GPU_OFFLINE"
    template = "The GPU cannot be booked now: {reason}"


class GpuBooked(AitbcError):
    status = 409
    code = "GPU_BOOKED"
    template = "The GPU is booked in that time: from {busy_from} until {busy_until}."


class GpuNotBooked(AitbcError):
    status = 409
    code = "GPU_NOT_BOOKED"
    template = "There is no booking of this GPU to release."


class GpuInUse(AitbcError):
    status = 409
    code = "GPU_IN_USE"
    template = "The GPU has bookings that have not ended; its miner stays as it is until then."


class MinerListed(AitbcError):
    status = 409
    code = "MINER_LISTED"
    template = "Miner {miner_id} is listed as another GPU: {gpu_id}"


class OwnGpu(AitbcError):
    status = 409
    code = "OWN_GPU"
    template = "Your own GPU cannot be booked by you."


class BookingEnded(AitbcError):
    status = 409
    code = "BOOKING_ENDED"
    template = "The booking has ended."


class BookingNotBegun(AitbcError):
    status = 409
    code = "BOOKING_NOT_BEGUN"
    template = "The booking begins at {start}."


class RentAboveCap(MoneyError):
    status = 409
    code = "RENT_ABOVE_CAP"
    template = "The booking costs {price} AIT, more than the {cap} AIT that you allow."


class BookingTimeInvalid(InvalidRequest):
    """A start or a length that no booking has; `field` says which."""


class TooManyGpus(AitbcError):
    status = 409
    code = "TOO_MANY_GPUS"
    template = "An account has at most {limit} GPUs listed."


class TooManyBookings(AitbcError):
    status = 429
    code = "TOO_MANY_BOOKINGS"
    template = "Too many bookings of one account: {limit} {of}."


class ForBookedJobs(Forbidden):
    template = "This key submits jobs to a booked GPU, and does nothing else."


class GpuModelNotFound(NotFound):
    code = "GPU_MODEL_NOT_FOUND"
    template = "No GPU of this model is listed: {model}"


class ReviewNeedsBooking(Forbidden):
    code = "REVIEW_NEEDS_BOOKING"
    template = "Only who has booked this GPU may review it."


class BookingNotSettled(AitbcError):
    status = 409
    code = "BOOKING_NOT_SETTLED"
    template = "Only a booking that has ended is reviewed."


class BookingUnused(AitbcError):
    status = 409
    code = "BOOKING_UNUSED"
    template = "Nothing of this booking was used, so there is nothing to review."


class ReviewFinal(AitbcError):
    status = 409
    code = "REVIEW_FINAL"
    template = "This review could be changed until {until}."
