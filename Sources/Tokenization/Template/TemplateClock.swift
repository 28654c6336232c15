// The time a template may print. The caller reads the clock; the engine only knows the calendar.

/// A moment for `strftime_now`, in the caller's time zone.
package struct TemplateClock: Sendable, Equatable {
    /// Seconds since 1970, plus the offset of the time zone. [seconds]
    package var secondsSince1970: Int64

    package init(secondsSince1970: Int64) { self.secondsSince1970 = secondsSince1970 }

    private static let weekdays = ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"]
    private static let months = [
        "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
        "December",
    ]

    /// The text that `format` describes, as C's `strftime` has it; nil for a conversion there is none of here.
    func formatted(_ format: Jinja.Text) -> Jinja.Text? {
        // Years 1 to 9999, as Python has them.
        guard (-62_135_596_800..<253_402_300_800).contains(secondsSince1970) else { return nil }
        let second = Int((secondsSince1970 % 86_400 + 86_400) % 86_400)
        let day = Int((secondsSince1970 - Int64(second)) / 86_400)
        var result = Jinja.Text.empty
        var index = 0
        let bytes = format.bytes
        while index < bytes.count {
            guard bytes[index] == UInt8(ascii: "%"), index + 1 < bytes.count else {
                result.append(CollectionOfOne(bytes[index]), trusted: format.isTrusted(at: index))
                index += 1
                continue
            }
            var width: Character = "0"
            if bytes[index + 1] == UInt8(ascii: "-") {
                width = "-"
                index += 1
            }
            guard index + 1 < bytes.count,
                let text = Self.conversion(Character(Unicode.Scalar(bytes[index + 1])), width, day: day, second: second)
            else { return nil }
            result.append(text.utf8, trusted: false)
            index += 2
        }
        return result
    }

    private static func conversion(_ letter: Character, _ width: Character, day: Int, second: Int) -> String? {
        let (year, month, dayOfMonth, dayOfYear) = date(day)
        let hour = second / 3600
        let weekday = (day % 7 + 7) % 7
        func padded(_ value: Int, _ count: Int = 2, with fill: Character = "0") -> String {
            let digits = String(value)
            return width == "-" ? digits : String(repeating: fill, count: max(0, count - digits.count)) + digits
        }
        switch letter {
        case "Y": return String(year)
        case "y": return padded(year % 100)
        case "m": return padded(month)
        case "d": return padded(dayOfMonth)
        case "e": return padded(dayOfMonth, with: " ")
        case "j": return padded(dayOfYear, 3)
        case "H": return padded(hour)
        case "I": return padded(hour % 12 == 0 ? 12 : hour % 12)
        case "M": return padded(second / 60 % 60)
        case "S": return padded(second % 60)
        case "p": return hour < 12 ? "AM" : "PM"
        case "B": return months[month - 1]
        case "b", "h": return String(months[month - 1].prefix(3))
        case "A": return weekdays[weekday]
        case "a": return String(weekdays[weekday].prefix(3))
        case "F": return "\(year)-\(padded(month))-\(padded(dayOfMonth))"
        case "T": return "\(padded(hour)):\(padded(second / 60 % 60)):\(padded(second % 60))"
        case "%": return "%"
        default: return nil
        }
    }

    /// The date of a day counted from 1970, by eras of 400 years that begin in March.
    private static func date(_ day: Int) -> (year: Int, month: Int, day: Int, dayOfYear: Int) {
        let shifted = day + 719_468
        let era = (shifted >= 0 ? shifted : shifted - 146_096) / 146_097
        let dayOfEra = shifted - era * 146_097
        let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
        let dayFromMarch = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let monthFromMarch = (5 * dayFromMarch + 2) / 153
        let month = monthFromMarch < 10 ? monthFromMarch + 3 : monthFromMarch - 9
        let year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0)
        let isLeap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
        let dayOfYear = month > 2 ? dayFromMarch + 60 + (isLeap ? 1 : 0) : dayFromMarch - 305
        return (year, month, dayFromMarch - (153 * monthFromMarch + 2) / 5 + 1, dayOfYear)
    }
}
