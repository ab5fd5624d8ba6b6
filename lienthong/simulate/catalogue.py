"""A catalogue shaped like the real one: codes and titles of common procedures with invented papers, limits and fees."""

from __future__ import annotations

from lienthong.simulate.model import Procedure

CITY, JUSTICE = "commune", "H29.15"

_WARD = (
    ("1.001193", "Đăng ký khai sinh", "HT", 1, 0),
    ("1.000894", "Đăng ký kết hôn", "HT", 5, 0),
    ("1.000656", "Đăng ký khai tử", "HT", 1, 0),
    ("1.004873", "Cấp Giấy xác nhận tình trạng hôn nhân", "HT", 3, 10_000),
    ("1.003583", "Đăng ký khai sinh lưu động", "HT", 5, 0),
    ("1.001022", "Đăng ký nhận cha, mẹ, con", "HT", 3, 10_000),
    ("2.000635", "Cấp bản sao trích lục hộ tịch", "HT", 1, 8_000),
    ("2.000815", "Chứng thực bản sao từ bản chính", "CT", 1, 2_000),
    ("2.000884", "Chứng thực chữ ký trong giấy tờ, văn bản", "CT", 1, 10_000),
    ("2.000913", "Chứng thực hợp đồng, giao dịch về tài sản", "CT", 2, 50_000),
    ("1.001776", "Thực hiện trợ cấp xã hội hằng tháng", "BTXH", 22, 0),
    ("1.001731", "Hỗ trợ chi phí mai táng cho đối tượng bảo trợ", "BTXH", 10, 0),
    ("1.012222", "Cấp giấy xác nhận nơi cư trú của hộ kinh doanh", "KD", 3, 100_000),
    ("1.010723", "Cấp giấy phép môi trường cấp cơ sở", "MT", 15, 1_200_000),
    ("1.009994", "Cấp giấy phép xây dựng nhà ở riêng lẻ", "XD", 20, 75_000),
    ("1.012796", "Đính chính giấy chứng nhận đã cấp", "DD", 10, 50_000),
)  # fmt: skip

_JUSTICE = (
    ("2.000488", "Cấp Phiếu lý lịch tư pháp cho công dân Việt Nam", "LLTP", 10, 200_000),
    ("2.001417", "Cấp Phiếu lý lịch tư pháp cho cơ quan tố tụng", "LLTP", 10, 0),
    ("1.001122", "Đăng ký hành nghề công chứng", "CC", 10, 500_000),
    ("1.002010", "Đăng ký hoạt động văn phòng luật sư", "LS", 10, 1_000_000),
    ("2.001895", "Cấp giấy xác nhận là người gốc Việt Nam", "QT", 5, 100_000),
    ("1.005136", "Nhập quốc tịch Việt Nam", "QT", 90, 3_000_000),
    ("2.002039", "Thôi quốc tịch Việt Nam ở trong nước", "QT", 60, 2_500_000),
    ("1.008709", "Công nhận văn phòng thừa phát lại", "TPL", 20, 800_000),
)  # fmt: skip

_PAPERS = {
    "HT": (("KQ.G15.000101", "Tờ khai theo mẫu"), ("KQ.G15.000102", "Giấy chứng sinh hoặc giấy tờ thay thế"),
           ("KQ.G15.000103", "Giấy tờ tùy thân (đã xuất trình)")),
    "LLTP": (("KQ.G15.000201", "Tờ khai yêu cầu cấp Phiếu lý lịch tư pháp"), ("KQ.G15.000202", "Bản chụp căn cước")),
}  # fmt: skip
_OTHER_PAPERS = (
    ("KQ.G00.000001", "Đơn đề nghị"), ("KQ.G00.000002", "Bản sao giấy tờ liên quan"),
    ("KQ.G00.000003", "Bản vẽ, sơ đồ kèm theo"), ("000.00.00.G09-KQ002269", "Giấy ủy quyền"),
)  # fmt: skip


def _procedure(line: tuple[str, str, str, int, int], agency: str) -> Procedure:
    code, name, field, days, fee = line
    return Procedure(
        code=f"{code}.000.00.00.H29", name=name, field=f"G15-{field}", level=4 if fee < 100_000 else 3, agency=agency,
        days=days, days_kind="calendar" if days > 30 else "working", fee=fee, papers=_PAPERS.get(field, _OTHER_PAPERS),
    )  # fmt: skip


WARD_PROCEDURES = tuple(_procedure(line, CITY) for line in _WARD)
JUSTICE_PROCEDURES = tuple(_procedure(line, JUSTICE) for line in _JUSTICE)
PROCEDURES = WARD_PROCEDURES + JUSTICE_PROCEDURES
