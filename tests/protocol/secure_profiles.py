"""The profiles of ``SecureSession``, for tests that hold for each of them."""

from __future__ import annotations

from typing import get_args

import pytest

from gcrypt_channels.protocol.profiles import SecureProfile, is_available

AVAILABLE: list[SecureProfile] = [each for each in get_args(SecureProfile) if is_available(each)]

each_profile = pytest.mark.parametrize("profile", AVAILABLE)
