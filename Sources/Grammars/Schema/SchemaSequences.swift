// Elements with commas between them, some of which may be left out: the members of objects, and lists whose elements
// must differ.

import JSON

/// One element that may be generated, or must.
struct SequenceMember {
    let isRequired: Bool
    let text: Expression
}

extension SchemaTranslation {
    /// `members` in order and then any number of `other`, between `minimum` and `maximum` in all.
    mutating func content(
        _ members: [SequenceMember], _ other: Expression?, _ minimum: Placed<Int>?, _ maximum: Placed<Int>?
    ) throws(GrammarError) -> SeparatedContent {
        let required = members.count { $0.isRequired }
        let least = minimum?.value ?? 0
        if let maximum, maximum.value < required {
            return SeparatedContent(
                filled: try nothing(maximum.place, "\(required) members are required"), mayBeEmpty: false)
        }
        // Members of made-up names may repeat a name: only the first surely counts.
        if least > members.count + (other == nil ? 0 : 1), let minimum {
            guard other == nil else {
                throw GrammarError.unsupported(
                    place: minimum.place.description, what: "a minimum that needs several members of free names")
            }
            return SeparatedContent(
                filled: try nothing(minimum.place, "there are only \(members.count) members"), mayBeEmpty: false)
        }
        let isUncounted = least <= required && (maximum.map { other == nil && members.count <= $0.value } ?? true)
        guard isUncounted else { return try counted(members, other, least, maximum?.value) }
        let comma = try comma()
        let tail = other.map { Expression.repetition(.sequence([comma, $0]), atLeast: 0, atMost: nil) } ?? .empty
        var choices: [Expression] = []
        if !members.isEmpty {
            let elements = members.map { Expression.Element($0.text, isRequired: $0.isRequired) }
            choices.append(.sequence([.listing(elements, separator: comma), tail]))
        }
        if required == 0, let other { choices.append(.sequence([other, tail])) }
        return SeparatedContent(filled: .choice(choices), mayBeEmpty: required == 0)
    }

    /// The same where the number of members matters: a rule for each number already there before each member.
    private mutating func counted(
        _ members: [SequenceMember], _ other: Expression?, _ least: Int, _ most: Int?
    ) throws(GrammarError) -> SeparatedContent {
        guard members.count <= Self.countedMembers else {
            throw GrammarError.overBudget(
                what: "members that are counted", value: members.count, limit: Self.countedMembers)
        }
        let comma = try comma()
        let top = most.map { min($0, members.count) } ?? max(least, 1)
        var next: [Expression] = []
        for count in 0...top {
            let missing = max(0, least - count)
            guard let other, most.map({ $0 > count }) ?? true else {
                next.append(missing > 0 ? .nothing : .empty)
                continue
            }
            guard missing < 2 else {
                next.append(.nothing)
                continue
            }
            let more = Expression.sequence([comma, other])
            if count > 0 {
                next.append(.repetition(more, atLeast: missing, atMost: most.map { $0 - count }))
            } else {
                let filled = Expression.sequence([
                    other, .repetition(more, atLeast: 0, atMost: most.map { $0 - 1 }),
                ])
                next.append(missing > 0 ? filled : .optional(filled))
            }
        }
        for (index, member) in members.enumerated().reversed() {
            var here: [Expression] = []
            for count in 0...min(top, index) {
                try document.spend()
                var choices: [Expression] = []
                if most.map({ count < $0 }) ?? true {
                    let after = next[min(count + 1, top)]
                    choices.append(.sequence([count > 0 ? comma : .empty, member.text, after]))
                }
                if !member.isRequired { choices.append(next[count]) }
                here.append(.rule(try addRule("\(count) before member \(index)", .choice(choices))))
            }
            next = here
        }
        return SeparatedContent(filled: next[0], mayBeEmpty: false)
    }

    private static var countedMembers: Int { 64 }
}
